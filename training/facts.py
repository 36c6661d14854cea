"""Tables of the facts in some puzzles, and number words."""

from __future__ import annotations

from typing import Final

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

CAPITALS: Final = {
    # The first dozen is the easy level: the smallest models can use their few parameters for the
    # most frequent countries.
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Japan": "Tokyo", "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo",
    "Greece": "Athens", "Portugal": "Lisbon", "Poland": "Warsaw", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Iceland": "Reykjavik",
    "Ireland": "Dublin", "Austria": "Vienna", "Hungary": "Budapest", "Romania": "Bucharest",
    "Bulgaria": "Sofia", "Serbia": "Belgrade", "Croatia": "Zagreb", "Slovenia": "Ljubljana",
    "Slovakia": "Bratislava", "Ukraine": "Kyiv", "Belarus": "Minsk", "Lithuania": "Vilnius",
    "Latvia": "Riga", "Estonia": "Tallinn", "Belgium": "Brussels", "Albania": "Tirana",
    "Turkey": "Ankara", "Georgia": "Tbilisi", "Armenia": "Yerevan", "Iran": "Tehran",
    "Iraq": "Baghdad", "Syria": "Damascus", "Lebanon": "Beirut", "Jordan": "Amman",
    "Qatar": "Doha", "Oman": "Muscat", "Yemen": "Sanaa", "India": "New Delhi",
    "Pakistan": "Islamabad", "Nepal": "Kathmandu", "Bhutan": "Thimphu", "Bangladesh": "Dhaka",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Laos": "Vientiane", "Cambodia": "Phnom Penh",
    "Indonesia": "Jakarta", "Malaysia": "Kuala Lumpur", "Mongolia": "Ulaanbaatar",
    "Australia": "Canberra", "New Zealand": "Wellington", "Fiji": "Suva", "Samoa": "Apia",
    "Canada": "Ottawa", "Cuba": "Havana", "Jamaica": "Kingston", "Haiti": "Port-au-Prince",
    "Honduras": "Tegucigalpa", "Nicaragua": "Managua", "Colombia": "Bogota",
    "Venezuela": "Caracas", "Ecuador": "Quito", "Peru": "Lima", "Brazil": "Brasilia",
    "Paraguay": "Asuncion", "Uruguay": "Montevideo", "Argentina": "Buenos Aires",
    "Chile": "Santiago", "Morocco": "Rabat", "Algeria": "Algiers", "Tunisia": "Tunis",
    "Libya": "Tripoli", "Sudan": "Khartoum", "Ethiopia": "Addis Ababa", "Kenya": "Nairobi",
    "Uganda": "Kampala", "Rwanda": "Kigali", "Somalia": "Mogadishu", "Ghana": "Accra",
    "Nigeria": "Abuja", "Senegal": "Dakar", "Mali": "Bamako", "Niger": "Niamey",
    "Angola": "Luanda", "Zambia": "Lusaka", "Zimbabwe": "Harare", "Namibia": "Windhoek",
    "Botswana": "Gaborone", "Mozambique": "Maputo", "Madagascar": "Antananarivo",
}  # fmt: skip

OPPOSITES: Final = (
    # Each word occurs in one pair only, so that it has one correct answer. The first dozen pairs
    # are the easy level.
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("good", "bad"), ("day", "night"),
    ("yes", "no"), ("fast", "slow"), ("old", "young"), ("open", "closed"), ("left", "right"),
    ("black", "white"), ("true", "false"), ("high", "low"), ("wet", "dry"), ("rich", "poor"),
    ("happy", "sad"), ("loud", "quiet"), ("hard", "soft"), ("heavy", "light"), ("long", "short"),
    ("near", "far"), ("early", "late"), ("first", "last"), ("full", "empty"), ("strong", "weak"),
    ("thick", "thin"), ("wide", "narrow"), ("deep", "shallow"), ("sharp", "blunt"),
    ("smooth", "rough"), ("clean", "dirty"), ("safe", "dangerous"), ("cheap", "expensive"),
    ("brave", "cowardly"), ("friend", "enemy"), ("love", "hate"), ("war", "peace"),
    ("win", "lose"), ("buy", "sell"), ("give", "take"), ("push", "pull"), ("start", "stop"),
    ("begin", "end"), ("arrive", "depart"), ("remember", "forget"), ("laugh", "cry"),
    ("accept", "refuse"), ("always", "never"), ("above", "below"), ("inside", "outside"),
    ("before", "after"), ("north", "south"), ("east", "west"), ("summer", "winter"),
    ("sweet", "bitter"), ("victory", "defeat"), ("success", "failure"), ("question", "answer"),
    ("ancient", "modern"), ("generous", "stingy"), ("guilty", "innocent"), ("major", "minor"),
    ("male", "female"), ("polite", "rude"), ("public", "private"), ("simple", "complex"),
    ("absent", "present"), ("alive", "dead"), ("asleep", "awake"), ("maximum", "minimum"),
    ("more", "less"), ("many", "few"), ("import", "export"), ("increase", "decrease"),
)  # fmt: skip

EASY_FACTS: Final = 12
"""The number of entries at the beginning of a table that are its easy level."""

_ONES: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen",
)  # fmt: skip

_TENS: Final = (
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip


def in_words(number: int) -> str:
    """Return a number in 0..999 in English words, such as 'four hundred twenty-one'."""
    if not 0 <= number < 1000:
        raise ValueError(f"only 0 to 999 can be put in words, not {number}")
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{_ONES[hundreds]} hundred" + (f" {in_words(rest)}" if rest else "")
