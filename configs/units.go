package configs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is written "250ms", "10s", "1h30m".
type Duration time.Duration

// String writes the shortest form that reads back: "1h", not "1h0m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write 250ms, 10s or 1h", s)
	}
	return Duration(d), nil
}

// Size is bytes, written "64MiB"; KiB, MiB, GiB and TiB are powers of 1024, kB,
// MB, GB and TB of 1000.
type Size int64

var sizeUnits = []struct {
	suffix string
	factor int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// String writes the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if s != 0 && int64(s)%u.factor == 0 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Rounded shows the size as a person reads it, in powers of 1024: "1.5 MiB".
func (s Size) Rounded() string {
	const units = "KMGTP"
	v, unit := float64(s), -1
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	if unit < 0 {
		return fmt.Sprintf("%d B", int64(s))
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

// ParseSize reads a size as it is written in a configuration, such as 64KiB.
func ParseSize(s string) (Size, error) {
	number, factor := strings.TrimSpace(s), int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(n), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || (n > 0 && n > (1<<62)/factor) {
		return 0, fmt.Errorf("%q is not a size; write 64MiB, 10GiB or a number of bytes", s)
	}
	return Size(n * factor), nil
}

// Price is dollars, written "0.023": in billionths, so that what is written reads
// back.
type Price int64

// ListPrice, written "list", is the list price of the store that the bucket is in:
// [Storage.ListedPrices] knows it.
const ListPrice Price = -1

const dollar = 1_000_000_000

// String writes the price without zeros at its end.
func (p Price) String() string {
	if p == ListPrice {
		return "list"
	}
	whole, rest := strconv.FormatInt(int64(p)/dollar, 10), fmt.Sprintf("%09d", int64(p)%dollar)
	if rest = strings.TrimRight(rest, "0"); rest == "" {
		return whole
	}
	return whole + "." + rest
}

// Dollars is the price as a number to calculate with.
func (p Price) Dollars() float64 { return float64(p) / dollar }

func parsePrice(s string) (Price, error) {
	if strings.TrimSpace(s) == "list" {
		return ListPrice, nil
	}
	whole, rest, _ := strings.Cut(strings.TrimSpace(s), ".")
	digits := whole + rest + strings.Repeat("0", max(0, 9-len(rest)))
	n, err := strconv.ParseUint(digits, 10, 62)
	if err != nil || whole == "" || len(rest) > 9 {
		return 0, fmt.Errorf("%q is not a price in dollars; write 0.023, or list", s)
	}
	return Price(n), nil
}
