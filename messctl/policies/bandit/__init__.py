"""`bandit`: queries one model per request and learns from the feedback on its answer alone. It needs no V.

A prompt becomes z: a constant, its hashed words folded into 64 buckets, and its eight cheap properties.

**Satisfaction.** ŝ_m(z) = w·z + w_m·z + μ_m·(v_m·z): a ridge w shared by all models (what makes a prompt hard is hard
for all of them) plus one of the model's own. Both are Kalman filters with a block-diagonal covariance: with e = s −
ŝ_m, g = P z, g_m = P_m z and S = 1 + z·g + z·g_m, feedback moves w by g·e/S and w_m by g_m·e/S, and takes g gᵀ/S from
P, g_m g_mᵀ/S from P_m. μ_m is the mean that is expected of a model: that of all models together, weighed by how well
each is known, a little higher for the reference; before anything is known it lies a quarter of the way from α to 1.
v_m = P_m Λ e₀ is how far the estimate still leans on it (w_m is kept without it, since μ_m moves on), so that a model
tried once is thought of as one of this zoo, whatever level this zoo is on. The level's variance grows a little with
every answer, and plain means fade, so that a model that changes is noticed: the memory is of about three hundred of
its answers. They fade with the answers of others, too, to 1/e in two thousand, or in as many as were judged so far if
that is more, so that one that has improved is asked again; and in three hundred while more than 20 is owed and the
last fifty answers were a tenth below α on the mean: then what is believed must be wrong, and who had bad luck is asked
again.

**Cost.** What reading the prompt will cost, k_m, may be known before it runs: from its tokens, by the calibrated
price of one (`Request.prompt_cost`); 0 where it is not. The rest, the answer above all, is what experience is asked
for. Ĉ_m is one of k_m + R̄_m, R̄_m being the running mean of cost − k_m; k_m + R_m(z), R_m being a ridge on the
properties, trained on cost − k_m and kept within a factor 4 of R̄_m, since a long question gets a long answer; and
the running mean Ē_m, as MESS+ has it. For every model it is the one whose absolute errors, each made before the cost
was learned, have the least fading sum. k_m is not clipped: a prompt fifty times as long does cost fifty times as much
to read. What sets the scale of costs, breaks ties and tells which trials are affordable stays Ē_m.

**Choice.** argmin over m of Ĉ_m + u_m − λ·ŝ_m, where u_m is what the request says that m would cost now beyond its
answer, as to load it; a model that cannot be asked is neither chosen, nor tried, nor served by the guard. A coin may
give the request to another model whose mean cost is at most four times that of the choice, u included: half the time
while there is no debt, if one of them has fewer than eight answers, as they fade, and is not already in doubt; and once
in fifty, to any of them. Where trials have a budget, a share of all that was paid, there is none that would cost more
beyond the choice than is left of it, as far as is known: a model's first answer counts as free, and a trial whose model
failed as paid. The odds are logged as the propensity.

**The price λ** of satisfaction needs no V. λ₀ is re-solved every few requests: the geometric mean of the least prices
at which that choice, over the last 128 prompts, would attain α − 0.01 and α + 0.01, each moved to within 2 to 98 % of
what is within reach. Then λ = λ₀·exp(−(B + h − r)/τ), where B = Σ(s − α) is the balance, with what is awaited; of what
was attained beyond α no more than 20 is counted on, since a model that failed after thousands of good answers would
otherwise serve for thousands more. So the price rises smoothly with the debt, and a step in what satisfaction costs
(from the best cheap model to one thirty times as dear) is a wide band of balances in which nothing changes; that λ₀
looks to both sides puts the balance into the middle of that band, and not where a surplus is spent for next to nothing
and a debt paid dearly. h, a quarter of the guard's depth and fading with the requests, is a debt that is allowed for
learning. r is a reserve against bad luck. Where the best model serves, B is a random walk that rises by the slack d =
max s̄ − α (at least 0.012) an answer, and ever falls by more than x with probability exp(−x/l), l = σ²/2d. So r = 6l,
less by 0.02 with every answer that is judged, since what was promised of the level allows for that; but no more than 30
% of what was paid so far would buy, at λ₀ a unit where all answers are judged, and at so many times as much as there
are answers to one that is. τ = 6 + 0.02·n, at most 110. With c, the mean cost of the costliest model, λ is at most
12·c·(1 + t/50M) after t requests: that model is not bought for a predicted gain below a twelfth, which is mostly noise
while models are so little known; what is owed until then, the guard pays. A V that is set gives λ = Q·c/V instead, as
in MESS+.

**What is awaited.** Feedback may come late, or never. The answers after the last one that was judged are awaited, at
the rate at which answers were judged so far, for a thousand requests; where a model is known by eight answers or more,
for twice as long as feedback took of late, and sixteen requests, once some came. Each counts in B as s̄_m − σ/√n̄_m −
α, by what is known of its model now: a debt that is run up blindly is seen as soon as the first word of it comes. And
no model but the reference is asked while more than 8 + 4·n_m of its answers are awaited. So who starts blind asks every
model a little, and then the reference until it hears of them; and who never hears anything stays with it, since nothing
shows that another would do.

**The search.** A model is cheap if its mean cost is at most half of c. Where one of two or more of these keeps the
promise alone, no dear model is worth buying; but which one it is, if any, takes a debt to find out, and a debt paid
before that is known is paid dearly. So, for the first 100·M judged answers, there is a search while one of them may yet
be it, s̄_m + (1 + b_m)·σ/√n̄_m ≥ α with b_m = 0.4·√log⁺(n/(n_m + 1)), and while the best model is surely so far
above α that it can pay for having searched: max (s̄ − 0.5·σ/√n̄) − α, times the root of the share of answers that are
judged, is at least 0.035. In a search λ is at most 5·c; and below half the guard's depth no ŝ is looked at, since what
is predicted of a prompt is, so early, noise beside what is not known of the levels: it serves argmin of Ĉ_m + u_m −
5c·(s̄_m + b_m·σ/√n̄_m), b_m being 0 where m is not cheap. The guard comes before it, so that all that is said of it
below holds; s̄, n̄, n and n_m are the guard's.

**The guard.** While B < −D, serve argmax of s̄_m + σ·√(log⁺(n / (M·(n_m + 1))) / n̄_m), where s̄_m is m's plain mean,
shrunk to μ_m with weight n₀, the reference starts with ten good answers on top, and n̄_m counts all of these; in the
bonus, answers that are awaited count among n_m and n̄_m. For the first ten units of debt below the line it is careful:
it takes every mean to be 1.5·σ/√n̄_m lower, so that a model that is little known does not serve where luck was bad. n
counts all answers heard so far, and one. D = 8 − 0.15/(max s̄ − α), at least 1, plus 0.001·n, times the root of the
share of answers that are judged: a promise close to the best model's level leaves little to pay debts with, and so
allows few.

**Why no model can be starved, and why the debt is paid.** A sketch. Let m's answers, to prompts drawn without regard to
what they say, satisfy with mean p_m, independently of the past, and let p* = max p_m > α. Suppose that the balance were
more than ten below the guard's line from some request on. Then the guard, no longer careful, chooses every model from
there, and it does not look at prompts. (a) If some model were served finitely often, its n_m would fade while n grows,
so its index would grow like √log n with the weight 1/√n̄_m; that of a model served for a fixed share of the requests
has the far smaller weight of a full memory: a contradiction. So every model is served without end. (b) Then every s̄_m
comes to p_m, as closely as a memory of three hundred answers allows; what was heard before, and the reference's good
start, fade. (c) A model served for a share ρ > 0 of the requests has a bonus that hardly grows (with a memory of three
hundred answers it is 0.03 at 10⁴ requests, 0.08 at 10⁹), and the index of the best model is about p* or more. So where
p_m is far below p*, m's share tends to 0 (as what is known of it fades, it is asked a few times whenever n has grown by
a factor; fading in three hundred ends as soon as what serves pays), and the mean of s comes near p* > α. B then rises
for ever while the line falls: it is crossed upwards, against the supposition. So the balance returns to the line again
and again, whatever the estimates per prompt say: they may be arbitrarily wrong, and can only lead the balance down to
the line. (B is that balance less what was forgone of it, so the true one is never below it.) What attainment misses in
the long run is the line's slope, 0.1 points, plus what the guard needs to find a model that pays. No rate is claimed: σ
= 0.4 is smaller than the theory of such indices asks for, because measured zoos are kinder than its worst case. Where
p* ≤ α, the best model's mean is approached. The certificate α − Q/n holds on any input.

References: drift plus penalty and the queue, MESS+ (arXiv:2505.19947); re-solving, Badanidiyuru, Kleinberg and
Slivkins, *Bandits with Knapsacks* (2013); a guard that serves what surely pays, Kazerouni et al., *Conservative
Contextual Linear Bandits* (2017).
"""

from __future__ import annotations

from messctl.policies.bandit.policy import POLICY, STATE_VERSION, Bandit
from messctl.policies.bandit.state import Tuning

__all__ = ["POLICY", "STATE_VERSION", "Bandit", "Tuning"]
