package cost

import (
	"os"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
)

// TestPageIsFresh: docs/cost.md says what the code calculates.
func TestPageIsFresh(t *testing.T) {
	want, err := Document(configs.Default())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/cost.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/cost.md is stale: run make generate")
	}
}

// TestPageFollowsTheConfiguration: a default that changes what is asked of the store
// changes the page, and its own prices do not.
func TestPageFollowsTheConfiguration(t *testing.T) {
	before, err := Document(configs.Default())
	if err != nil {
		t.Fatal(err)
	}
	c := configs.Default()
	c.Storage.Prices.Storage, c.Storage.URL = 1e9, "gs://b"
	if after, err := Document(c); err != nil || after != before {
		t.Errorf("prices of a configuration are on the page: %v", err)
	}
	c.Compaction.TargetObject = 32 << 20
	if after, err := Document(c); err != nil || after == before {
		t.Errorf("the page does not follow compaction.target_object: %v", err)
	}
}

func TestTablesAreWhole(t *testing.T) {
	page, err := Document(configs.Default())
	if err != nil {
		t.Fatal(err)
	}
	width := 0
	for n, line := range strings.Split(page, "\n") {
		if !strings.HasPrefix(line, "|") {
			width = 0
			continue
		}
		cells := strings.Count(line, "|") - 1
		if width == 0 {
			width = cells
		}
		if cells != width {
			t.Errorf("line %d has %d cells in a table of %d: %s", n+1, cells, width, line)
		}
	}
}

func TestGrouped(t *testing.T) {
	for _, c := range []struct {
		v      float64
		digits int
		want   string
	}{{0, 0, "0"}, {999.4, 0, "999"}, {999.5, 0, "1,000"}, {59062.5, 1, "59,062.5"}, {1234567, 0, "1,234,567"}, {0.02, 2, "0.02"}} {
		if got := grouped(c.v, c.digits); got != c.want {
			t.Errorf("%v is written %s, want %s", c.v, got, c.want)
		}
	}
}
