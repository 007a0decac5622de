package tally

import (
	"encoding/json"
	"fmt"
	"testing"
)

// Counts are how often things were done, or found as they must be, by name: see names.
type Counts map[string]int64

// Add adds others.
func (c Counts) Add(others Counts) {
	for name, n := range others {
		c[name] += n
	}
}

// mark stands before the counts of a test in what it prints.
const mark = "tally: "

// Log says what a test has counted: at its end, once it has judged everything; nothing, if it
// has failed. A name that the page does not know fails the test.
func Log(t testing.TB, counts Counts) {
	t.Helper()
	line, err := encode(counts)
	if err != nil {
		t.Fatal(err)
	}
	if !t.Failed() {
		t.Log(line)
	}
}

func encode(counts Counts) (string, error) {
	for name := range counts {
		if title(name) == "" {
			return "", fmt.Errorf("tally: nothing is called %q (test/tally/counts.go)", name)
		}
	}
	text, err := json.Marshal(counts)
	return mark + string(text), err
}

// names are what is counted, in the order of the page.
func names() []struct{ name, title string } {
	return []struct{ name, title string }{
		{"seeds", "seeds"},
		{"simulated_seconds", "simulated time"},
		{"power_cuts", "times that a machine lost its power"},
		{"power_cuts_of_all", "times that all machines did, at once"},
		{"kills", "processes killed (SIGKILL)"},
		{"stops", "processes stopped (SIGTERM)"},
		{"pauses", "processes paused (SIGSTOP)"},
		{"partitions", "times that links lost everything, one way or both"},
		{"slow_links", "times that links were slow"},
		{"disks_lost", "data directories lost"},
		{"disks_full", "disks full"},
		{"disks_slow", "disks slow"},
		{"disks_left", "of those, left: no ack waits for them"},
		{"bits_flipped", "bits flipped in what is stored"},
		{"replicas_healed", "damaged replicas fetched anew"},
		{"bucket_outages", "times that the bucket failed"},
		{"bucket_faults", "calls of the bucket that failed, lost their answer, came late, or lied"},
		{"changes", "leaders and replicas moved, nodes drained"},
		{"records", "records acked, and each found once, at its offset, with its value"},
		{"transactions", "transactions committed, and all of them read, once"},
		{"transactions_aborted", "transactions aborted or left open, and nothing of them read"},
		{"batches_compared", "batches compared between two replicas, byte by byte"},
		{"objects_audited", "objects that the catalogue names, looked for in the bucket and there"},
		{"objects_deleted", "objects deleted, none that was named"},
		{"failovers", "partitions whose leader was killed"},
		{"failovers_in_time", "of those, acked again within 1.5 s"},
		{"planned_moves", "leaders moved or stopped under load"},
		{"planned_moves_in_time", "of those, a wait between two acks of at most 100 ms"},
		{"calls_before_outage", "calls of a bucket that works, by nodes whose bucket then refuses"},
		{"calls_in_outage", "calls in as long a time while it refuses everything"},
		{"full_restarts", "kills of a node whose log has 10 GiB that were not uploaded"},
		{"full_restarts_in_time", "of those, served again within 5 s of the start of the process"},
		{"fuzz_targets", "fuzz targets"},
		{"fuzz_cpu_seconds", "processor time of fuzzing"},
		{"fuzz_inputs", "inputs tried"},
		{"guards", "checks switched off, and each missed by its test"},
		{"mutants", "checks switched off, and each missed by a seed"},
		{"kafka_tests", "tests of franz-go passed"},
	}
}

// title is what a name means; empty: nothing is called that.
func title(name string) string {
	for _, n := range names() {
		if n.name == name {
			return n.title
		}
	}
	return ""
}
