package seeded

import (
	"flag"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Variable names what holds the seed of a run, a decimal number below 2^64.
const Variable = "TEST_SEED"

var (
	given = flag.Uint64("seed", 0, "of random tests; 0: what "+Variable+" says, or a new one")
	drawn = sync.OnceValue(func() uint64 { return uint64(time.Now().UnixNano()) })
)

// Seed returns the seed of random choices, one for all tests of a process, and logs how to
// repeat it. It may be called from any goroutine, and within synctest.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := of(t, os.Getenv(Variable))
	t.Logf("seed %d; again: go test -run '^%s$' -seed %d", seed, t.Name(), seed)
	return seed
}

func of(t testing.TB, text string) uint64 {
	t.Helper()
	if *given != 0 {
		return *given
	}
	if text == "" {
		return drawn()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: a decimal number below 2^64", Variable, text)
	}
	return seed
}

var rapids sync.Once

// Check is rapid.Check with the seed of the run; -rapid.seed and RAPID_SEED count more.
func Check(t testing.TB, property func(*rapid.T)) {
	t.Helper()
	own := flag.Lookup("rapid.seed")
	text := os.Getenv(Variable)
	rapids.Do(func() {
		if own.Value.String() != "0" || text == "" && *given == 0 {
			return
		}
		if err := own.Value.Set(strconv.FormatUint(of(t, text), 10)); err != nil {
			t.Fatal(err)
		}
	})
	rapid.Check(t, property)
}
