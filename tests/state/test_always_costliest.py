"""What the costliest model alone would have cost, for the same tokens."""

import pytest

from messctl.records import Decision, Outcome, Request
from messctl.state.always_costliest import Bill
from messctl.state.request_log import Circumstances
from messctl.state.store import Store
from messctl.state.sums import ANSWERS, SERVED
from messctl.zoo import CostPerToken

SMALL, LARGE = CostPerToken("USD", 1.0, 2.0), CostPerToken("USD", 10.0, 20.0, fixed=5.0)
PRICES = {"small": SMALL, "large": LARGE}


@pytest.fixture
def bill_of(places):
    """Makes the bill of requests; each is the answers of the models queried, of which the first is served."""

    def bill(*answers):
        with Store(places()) as store:
            for row, outcomes in enumerate(answers):
                decision = Decision(Request(f"r{row}", "p"), row + 1, next(iter(outcomes)), tuple(outcomes))
                store.requests.add(decision, Circumstances("bandit", 0.8, "USD", "stated"))
                store.requests.add_answers(f"r{row}", outcomes)
            return Bill.of(store.requests.sums.rows(SERVED), store.requests.sums.rows(ANSWERS))

    return bill


def answer(cost, tokens_in, tokens_out, quality="stated"):
    return Outcome(None, cost, 0.1, tokens_in, tokens_out, "", cost_quality=quality)


def test_it_is_the_price_of_the_costliest_model_for_the_tokens_of_the_served_answers(bill_of):
    long, short = answer(1.0 * 100 + 2.0 * 50, 100, 50), answer(1.0 * 3 + 2.0, 3, 1)
    assert bill_of({"small": long}, {"small": short}).costliest(PRICES) == ("large", 2 * 5.0 + 10.0 * 103 + 20.0 * 51)
    explored = {"small": long, "large": answer(5.0 + 10.0 * 100 + 20.0 * 70, 100, 70)}
    assert bill_of(explored).costliest(PRICES) == ("large", 5.0 + 10.0 * 100 + 20.0 * 50)


def test_a_model_that_answered_hard_prompts_is_not_taken_for_the_costliest(bill_of):
    """By mean costs the small model is the costlier one, since it served the long prompts."""
    bill = bill_of({"small": answer(900.0, 900, 0)}, {"large": answer(5.0 + 10.0, 1, 0)})
    assert bill.costliest(PRICES) == ("large", 2 * 5.0 + 10.0 * 901)


def test_measured_costs_correct_the_price(bill_of):
    own = {"large": answer(2 * (5.0 + 100.0), 10, 0, "measured")}
    assert bill_of(own, {"small": answer(10.0, 10, 0, "measured")}).costliest(PRICES) == (
        "large",
        2 * 2 * (5.0 + 100.0),
    )
    others = bill_of({"small": answer(30.0, 10, 0, "measured")})  # the large one never answered
    assert others.costliest(PRICES) == ("large", 3 * (5.0 + 100.0))


def test_without_prices_a_model_costs_its_mean_so_far(bill_of):
    bill = bill_of({"small": answer(1.0, 0, 0)}, {"large": answer(9.0, 0, 0)}, {"large": answer(11.0, 0, 0)})
    assert bill.costliest({}) == ("large", 30.0)


@pytest.mark.parametrize(("answers", "prices"), [((), PRICES), (({"small": answer(0.0, 1, 1)},), {})])
def test_without_requests_or_costs_there_is_no_costliest_model(answers, prices, bill_of):
    assert bill_of(*answers).costliest(prices) is None
