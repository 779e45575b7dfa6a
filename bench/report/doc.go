// Package report turns what bench/load measured, directly and through a proxy, into what people and programs read: figures with their differences
// and confidence intervals, a table, a JSON document and one self-contained HTML file.
//
// Rounds alternate between the two sides, so that what disturbs the machine disturbs both. The difference of a figure is the trimmed mean of its
// differences in each round, with an interval from how much the rounds differ (see interval). A percentile is told only where there are enough samples
// (see load.Needed), and the notes say what would be needed.
package report
