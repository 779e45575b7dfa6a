// Package hedge is the layer that asks a second Endpoint when the first takes longer than most requests do, and takes the first good
// answer (Dean and Barroso, "The Tail at Scale"). "Longer than most" is a live percentile of the service's own latencies, measured to the head of the answer. Only
// idempotent requests without a body are asked twice, and only so many of a hundred as the budget says. The other attempt is cancelled as soon as there is an answer.
package hedge
