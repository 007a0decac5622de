// Package cost says what a load costs a month at given prices: on replicated
// disks, on disks with old segments in a bucket, and with rustmq. It is the one
// place of that arithmetic, behind `rustmq admin storage cost` and docs/cost.md,
// which [Document] writes (`make generate`).
//
// It is pure: no clock, network or state. Bytes are binary, a month has
// [HoursOfMonth] hours, amounts are dollars. What a system does with a load is a
// [Layout], numbers that can be argued about; a [Bill] is a Layout times prices.
// Machines, and what leaves the region, are no part of it.
package cost
