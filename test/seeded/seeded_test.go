package seeded

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestChoicesAreThoseOfTheSeed: a process that is told a seed chooses as another that is
// told the same, of rapid's too, otherwise than with another seed, and than with none.
func TestChoicesAreThoseOfTheSeed(t *testing.T) {
	choices := func(seed string, args ...string) string {
		t.Helper()
		c := exec.Command("/proc/self/exe", append([]string{"-test.run", "^TestChooses$", "-test.v"}, args...)...)
		c.Env = append(os.Environ(), Variable+"="+seed, "SEEDED_CHOOSES=1")
		said, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		var of []string
		for line := range strings.Lines(string(said)) {
			if _, what, ok := strings.Cut(line, "chosen: "); ok {
				of = append(of, what)
			}
		}
		if len(of) < 100 {
			t.Fatalf("%d choices:\n%s", len(of), said)
		}
		return strings.Join(of, "")
	}
	one := choices("1234567890123456789")
	if choices("1234567890123456789") != one {
		t.Error("the same seed chooses otherwise")
	}
	if choices("", "-seed", "1234567890123456789") != one {
		t.Error("-seed chooses otherwise than the variable of the same number")
	}
	if choices("7") == one {
		t.Error("another seed chooses the same")
	}
	if without := choices(""); choices("") == without {
		t.Error("without a seed two processes choose the same")
	}
}

// TestChooses is who chooses for TestChoicesAreThoseOfTheSeed.
func TestChooses(t *testing.T) {
	if os.Getenv("SEEDED_CHOOSES") == "" {
		t.Skip("TestChoicesAreThoseOfTheSeed runs it")
	}
	rng := rand.New(rand.NewPCG(Seed(t), 0))
	t.Logf("chosen: %d", rng.Uint64())
	Check(t, func(r *rapid.T) { t.Logf("chosen: %d", rapid.Uint64().Draw(r, "number")) })
}
