// Package figures is what brokers count for a person to look at, and an hour of it: totals since
// a process began, which are added up over brokers and compared with those of before, so that
// rates and percentiles of a cluster come of it without anything beside the brokers.
//
// Invariants: a total that went back, or one of another start, is of a process that began anew,
// and gives no rate that time. What is not known is NaN, never 0. An [Hour] holds so many points
// and no more.
//
// [Latencies] may be used concurrently; the rest may not.
package figures
