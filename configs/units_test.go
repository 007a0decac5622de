package configs

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1B": 1, "1kB": 1000, "1KiB": 1024, "64MiB": 64 << 20, "2 GiB": 2 << 30, " 3TB ": 3e12, "4TiB": 4 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v, want %v", text, int64(got), err, int64(want))
		}
	}
	for _, text := range []string{"", "B", "-1", "1.5GiB", "1 KB", "1mib", "MiB", "9223372036854775808", "8388608TiB", "1e3", "0x10", "1 2MiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v", text, got)
		}
	}
}

func TestSizesAreRoundedForPeople(t *testing.T) {
	for size, want := range map[Size]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 64 << 20: "64.0 MiB", 3 << 50: "3.0 PiB", 4 << 60: "4096.0 PiB"} {
		if got := size.Rounded(); got != want {
			t.Errorf("%d is shown as %s, want %s", int64(size), got, want)
		}
	}
}

func TestPrices(t *testing.T) {
	for text, want := range map[string]Price{"0": 0, "0.023": 23e6, " 0.0004 ": 4e5, "1.": 1e9, "12.5": 125e8, "0.000000001": 1, "list": ListPrice, " list ": ListPrice} {
		if got, err := parsePrice(text); err != nil || got != want {
			t.Errorf("parsePrice(%q) = %v, %v, want %v", text, int64(got), err, int64(want))
		}
	}
	for _, text := range []string{"", ".5", "-1", "lists", "List", "$1", "1,5", "1e3", "0.0000000001", "9999999999", "1.2.3", "0.+1", "+1"} {
		if got, err := parsePrice(text); err == nil {
			t.Errorf("parsePrice(%q) = %v", text, got)
		}
	}
}

func TestUnitsReadBack(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		size := Size(rapid.Int64Range(0, 1<<62).Draw(t, "size"))
		if got, err := ParseSize(size.String()); err != nil || got != size {
			t.Fatalf("size %d is written %s and reads back as %d, %v", int64(size), size, int64(got), err)
		}
		price := Price(rapid.Int64Range(int64(ListPrice), 1<<62-1).Draw(t, "price"))
		if got, err := parsePrice(price.String()); err != nil || got != price {
			t.Fatalf("price %d is written %s and reads back as %d, %v", int64(price), price, int64(got), err)
		}
		d := Duration(rapid.Int64().Draw(t, "duration"))
		if rapid.Bool().Draw(t, "round") {
			unit := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, time.Hour}).Draw(t, "unit")
			d = Duration(unit * time.Duration(rapid.Int64Range(-100, 100).Draw(t, "count")))
		}
		if d == math.MinInt64 {
			return // time.ParseDuration does not take it
		}
		if got, err := parseDuration(d.String()); err != nil || got != d {
			t.Fatalf("duration %d is written %s and reads back as %d, %v", int64(d), d, int64(got), err)
		}
	})
}

func TestDurationsAreShort(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "10s": 10 * time.Second, "1m": time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute, "1h0m30s": time.Hour + 30*time.Second,
		"10m": 10 * time.Minute, "20h": 20 * time.Hour, "50ms": 50 * time.Millisecond, "1.5s": 1500 * time.Millisecond,
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}
