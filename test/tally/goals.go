package tally

import (
	"fmt"
	"strings"
)

// sums are the counts of all runs, by suite.
type sums map[string]Counts

// of is how often something was counted, by all of those suites.
func (s sums) of(name string, suites ...string) (n int64) {
	for _, suite := range suites {
		n += s[suite][name]
	}
	return n
}

// goal is what is to be reached, and how far it is, by what some suites counted.
type goal struct {
	text   string
	suites []string
	state  func(sums) (measured string, reached bool)
}

const (
	reachedWord = "reached"
	notYetWord  = "**not yet**"
)

// nothing is what is said of what no run has counted.
const nothing = "nothing was run"

// atLeast is a goal of so many of something that went well, in some suites.
func atLeast(text, what string, most int64, name string, suites ...string) goal {
	return goal{text, suites, func(s sums) (string, bool) {
		n := s.of(name, suites...)
		if n == 0 {
			return nothing, false
		}
		return fmt.Sprintf(what, number(n)), n >= most
	}}
}

// share is a goal of a share, in percent, that some of all reach.
func share(text, what string, least float64, some, all, suite string) goal {
	return goal{text, []string{suite}, func(s sums) (string, bool) {
		of, n := s.of(all, suite), s.of(some, suite)
		if of == 0 {
			return nothing, false
		}
		return fmt.Sprintf(what, number(n), number(of)), 100*float64(n) >= least*float64(of)
	}}
}

// open is a goal that no suite counts.
func open(text, why string) goal {
	return goal{text, nil, func(sums) (string, bool) { return why, false }}
}

// goals are the figures that were set, harder than what the field's systems state of themselves.
func goals() []goal {
	return []goal{
		atLeast("0 acked records lost when all nodes lose their power at once, with the defaults: 10,000 times simulated",
			"0 lost in %s power cuts of all nodes, simulated", 10_000, "power_cuts_of_all", "seeds", "cuts"),
		{"and 500 times on a disk", []string{"chaos", "power"}, func(s sums) (string, bool) {
			all, machines := s.of("power_cuts_of_all", "chaos", "power"), s.of("power_cuts", "chaos", "power")
			if machines == 0 {
				return nothing, false
			}
			return fmt.Sprintf("0 lost in %s power cuts of all three nodes on a real file system; in all, %s machines lost their power", number(all), number(machines)), all >= 500
		}},
		{"0 acked records lost to a flipped bit on a minority of replicas, which heals by itself within 60 s for each GiB", []string{"chaos", "seeds"}, func(s sums) (string, bool) {
			real, simulated := s.of("bits_flipped", "chaos"), s.of("bits_flipped", "seeds")
			if real+simulated == 0 {
				return nothing, false
			}
			return fmt.Sprintf("0 lost after %s bits, and %s simulated; %s replicas were fetched anew, those whose bit was read. All heal within a test; how long a GiB takes is not measured",
				number(real), number(simulated), number(s.of("replicas_healed", "chaos"))), false
		}},
		open("0 acked records lost to damage on all replicas, at different places, while each batch has a good copy or is in the bucket",
			"not promised: a replica that is damaged is fetched anew from one that is whole; one alone is healed from the bucket ([record 19](design/0019-rot.md))"),
		atLeast("100 % of flipped bits found before a byte is served, of a small store of each kind", "100 %% of %s bits of the log, objects, manifests, snapshots, the metadata log and what a bucket is known by: each was refused or changed nothing", 1, "bits_flipped", "bits"),
		share("99 % of partitions whose leader is killed take acks again within 1.5 s", "%s of %s; [what a machine that does nothing else takes](performance.md)", 99, "failovers_in_time", "failovers", "chaos"),
		share("a leader moved on purpose costs a wait of 100 ms at most", "%s of %s, while seven other tests run on the same two cores; [what a machine that does nothing else takes](performance.md)", 100, "planned_moves_in_time", "planned_moves", "chaos"),
		{"0 acks of a leader that has lost its lease, in 1,000 pauses and partitions", []string{"chaos", "stalls", "seeds", "leaders"}, func(s sums) (string, bool) {
			real := s.of("pauses", "chaos", "stalls") + s.of("partitions", "chaos", "stalls")
			simulated := s.of("pauses", "seeds", "leaders") + s.of("partitions", "seeds", "leaders")
			if real+simulated == 0 {
				return nothing, false
			}
			return fmt.Sprintf("0 of what was acked was lost, or acked twice, in %s and %s simulated", number(real), number(simulated)), real+simulated >= 1000
		}},
		share("a node with 10 GiB that were not uploaded serves within 5 s of SIGKILL", "%s of %s, from the start of the process until all its partitions have acked, and given their first and last records", 100, "full_restarts_in_time", "full_restarts", "full"),
		open("the p99 of produce stays within 10 % while the bucket is away for an hour, until the log is full; then producers are slowed",
			"producing and the tail go on through every way to fail, and a full log slows and then refuses (`TestBucketOutages`); not measured for an hour"),
		{"a bucket that refuses everything is asked at most 1.2 times as much", []string{"chaos"}, func(s sums) (string, bool) {
			before, during := s.of("calls_before_outage", "chaos"), s.of("calls_in_outage", "chaos")
			if before == 0 {
				return nothing, false
			}
			ratio := float64(during) / float64(before)
			return fmt.Sprintf("%.2f times: %s calls before, %s in as long a time of the outage", ratio, number(before), number(during)), ratio <= 1.2
		}},
		{"0 objects that nothing names after an hour of chaos and a grace, 0 that are named and not there", []string{"chaos", "seeds", "hour"}, func(s sums) (string, bool) {
			hours := s.of("simulated_seconds", "hour")
			if hours == 0 {
				return nothing, false
			}
			return fmt.Sprintf("0 and 0, after %s of simulated chaos and on a real file system: %s objects named and there, %s deleted", span(hours),
				number(s.of("objects_audited", "hour", "chaos", "seeds")), number(s.of("objects_deleted", "hour"))), hours >= 3600
		}},
		{"10 hours of processor time of fuzzing without a panic", []string{"fuzz"}, func(s sums) (string, bool) {
			seconds := s.of("fuzz_cpu_seconds", "fuzz")
			if seconds == 0 {
				return nothing, false
			}
			return fmt.Sprintf("%s, %s inputs", span(seconds), number(s.of("fuzz_inputs", "fuzz"))), seconds >= 36_000
		}},
		atLeast("one disk of three that takes 500 ms for each sync: the p99 of acks is at most twice what it was, within 10 s",
			"%s disks, in simulated time, whichever node it is (`TestADiskThatDragsIsLeft`)", 3, "disks_left", "seeds"),
		{"at least an hour of simulated time in each minute; 200 seeds in each run of CI", []string{"seeds"}, func(s sums) (string, bool) {
			seconds, real := s.of("simulated_seconds", "seeds"), s.of(wallSeconds, "seeds")
			if seconds == 0 || real == 0 {
				return nothing, false
			}
			each := float64(seconds) / float64(real)
			return fmt.Sprintf("%.1f minutes in each minute on two cores, for the nodes are whole ones; %s seeds in all, and ten in each run of CI", each, number(s.of("seeds", "seeds"))), false
		}},
		{"100 % of what is switched off on purpose is noticed", []string{"mutants"}, func(s sums) (string, bool) {
			guards := s.of("guards", "mutants")
			if guards == 0 {
				return nothing, false
			}
			return fmt.Sprintf("by a test of its own, for %s checks (`make suite-mutants`); and %s times by a seed", number(guards), number(s.of("mutants", "mutants"))), true
		}},
		{"0 transactions torn, 0 reads of what was aborted", []string{"chaos", "seeds"}, func(s sums) (string, bool) {
			n := s.of("transactions", "seeds", "chaos")
			if n == 0 {
				return nothing, false
			}
			return fmt.Sprintf("0 and 0 in %s transactions, beside %s that were aborted or left open", number(n), number(s.of("transactions_aborted", "seeds", "chaos"))), true
		}},
	}
}

// number tells n with commas.
func number(n int64) string {
	digits := fmt.Sprint(n)
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, groups...), ",")
}

// span tells seconds in the unit that says something.
func span(seconds int64) string {
	switch {
	case seconds >= 2*3600:
		return fmt.Sprintf("%.1f hours", float64(seconds)/3600)
	case seconds >= 120:
		return fmt.Sprintf("%.0f minutes", float64(seconds)/60)
	}
	return fmt.Sprintf("%d seconds", seconds)
}
