package doctor

import (
	"fmt"
	"strings"
	"time"
)

// Probed is what a probe of the bucket has found.
type Probed struct {
	Where string
	// Failed are the steps that did not work, each with why; empty: it does all that is needed.
	Failed []string
	Skew   time.Duration // its clock less this host's
	Took   time.Duration // of the slowest step
}

// Bucket judges a probe, or why there was none.
func Bucket(p Probed, err error) []Check {
	const name = "bucket"
	switch {
	case err != nil:
		return []Check{ill(name, Fail, err.Error(), "what is acked cannot be uploaded: once the log is full, producers are held back",
			"see that the URL, the region and the credentials are right, and that this host may reach the store; `rustmq admin storage probe URL` tries the same")}
	case len(p.Failed) > 0:
		return []Check{ill(name, Fail, fmt.Sprintf("%s does not do all that is needed: %s", p.Where, strings.Join(p.Failed, "; ")), "uploads, deletions or recovery do not work without it",
			"`rustmq admin storage probe URL` says what each step is for, and docs/storage.md what the credentials must allow")}
	}
	return []Check{well(name, "%s does all that is needed, the slowest step in %v", p.Where, round(p.Took)), judgeSkew(p.Skew)}
}

func judgeSkew(skew time.Duration) Check {
	const name = "bucket clock"
	shown := fmt.Sprintf("%v from that of this host", skew.Abs().Round(time.Second))
	const do = "run chrony, systemd-timesyncd or ntpd on this host"
	switch {
	case skew.Abs() >= skewFail:
		return ill(name, Fail, shown, "stores refuse requests that are signed with another time", do)
	case skew.Abs() >= skewWarn:
		return ill(name, Warn, shown, "retention by age goes by the earlier of the two", do)
	}
	return well(name, "%s", shown)
}
