package report

import (
	"fmt"
	"strings"
)

// unexplained stands where a figure missed what it was to reach and no profile says why.
const unexplained = "Not explained yet: no profile was taken."

// Page is docs/performance.md, made of the newest results in dir.
func Page(dir string) (string, error) {
	r, err := Newest(dir)
	if err != nil {
		return "", err
	}
	return r.page(), nil
}

func (r Results) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Performance

Made by `+"`make generate`"+` of the newest file in bench/results, which `+"`make bench`"+` writes (%s).
Each figure says when it was measured, and at which commit.

`, r.Machine)
	r.summary(&b)
	b.WriteString(howMeasured)
	figure := ""
	var late []Row
	explain := func() {
		for i, row := range late {
			if i == 0 {
				b.WriteString("\nAims missed, and what bounds them:\n\n")
			}
			fmt.Fprintf(&b, "- %s: %.0f %% short. %s\n", row.Name, row.short(row.Aim)*100, row.why())
		}
		late = nil
	}
	for _, row := range r.Rows {
		if row.Figure != figure {
			explain()
			figure = row.Figure
			fmt.Fprintf(&b, "\n## %s\n\nMeasured on %s at commit %s.\n\n| what | must | aim | median | spread | detail |\n|---|---|---|---|---|---|\n", Title(figure), row.Date, row.Commit)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s–%s | %s |\n", row.Name, row.MustText(), row.bound(row.Aim),
			row.verdict(), Number(row.Low), Number(row.High), row.Detail)
		if !row.Missed() && !row.aimed() {
			late = append(late, row)
		}
	}
	explain()
	return b.String()
}

// summary says how many of the figures reach what they must, and lists those that do not.
func (r Results) summary(b *strings.Builder) {
	musts, missed := 0, []Row{}
	for _, row := range r.Rows {
		if row.Must != 0 {
			musts++
		}
		if row.Missed() {
			missed = append(missed, row)
		}
	}
	fmt.Fprintf(b, "## What is reached, and what is not\n\nOf %d figures that must reach something %d do. ", musts, musts-len(missed))
	if len(missed) == 0 {
		b.WriteString("\n")
		return
	}
	b.WriteString("The others, with what a profile showed to stand between:\n\n| figure | what | must | median | short by | why |\n|---|---|---|---|---|---|\n")
	for _, row := range missed {
		fmt.Fprintf(b, "| %s | %s | %s | %s\u00a0%s | %.0f\u00a0%% | %s |\n", row.Figure, row.Name, row.MustText(), Number(row.Median), row.Unit, row.short(row.Must)*100, row.why())
	}
}

const howMeasured = `
## How it is measured, and again

    make bench                              every figure; hours
    FIGURES=F1,K2 make bench                some of them, shown and not written
    FIGURES=F1,K2 WRITE=1 PAIRS=7 make bench   some of them, in the place of what was there
    FIGURES=K2 ROWS='1 connection' make bench  rows with that in their names, shown and not written
    make generate                           this page, of what is in bench/results

Go, gcc and make are enough for the figures F; the others fetch what they need. Run it on a machine that does nothing else.

Every server and every client is a process of its own on one machine. The two
sides of a row run in turn (A B A B …) with the same client, topic shape and
payload (half of it random, no compression). A figure in × is the median of the
ratios of the pairs, with the lowest and the highest beside it: ratios travel
between machines, times do not. rustmq runs with its defaults, so every ack
waits for the disk; its topics are deleted after each load, so that segments are
reused, as they are once data is in the bucket. What each peer is:

| peer | what it is, and what it promises |
|---|---|
| kfake | franz-go's fake of Kafka. It keeps everything in memory, and keeps what it was given unless the row says that topics are deleted: then its memory is used again |
| NATS JetStream | writes to files, and syncs only where the row says so |
| Apache Kafka 4.1.1 | one node with broker and controller, or three; a heap of 1 GiB and its own defaults: it does not sync unless the row says so |
| franz-go, rdkafka | clients, on the same server |
| a bare loop, copy or server | what the machine gives to a program that does nothing else: group commit in a loop, as many copies as there are replicas; behind a socket of Kafka's protocol, the same for what a client produces, and its answer; the AWS SDK that puts or gets the same objects, three at a time, each whole by one request, into one buffer again and again; a process that gets, sums and sends objects on, and syncs and acknowledges records; crypto/tls |

Figures F are of the log, figures B of the bucket, figures K are beside Apache Kafka and of a whole cluster. rustmq's bucket is
a directory beside its log, but where a row has it on a device of its own, which is in memory: in a cloud a
bucket is not on the disk of the log. A load of F1 or K2 ends before the interval of uploads does: while it goes on,
uploads to that directory give way to it, and come behind it, as what Kafka's page cache holds does; of loads that last
for longer, and on a device that has to take both, [design 14](design/0014-pacing.md) has what was measured. The store of B1 to B3 is
versitygw, an S3 server, over HTTP, with its objects in memory; B1 counts requests in
a proxy before it, with metadata (entries of its log) apart from objects of records.
On loopback the processor bounds both sides, and all processes share it; over the line of 1 Gbit/s
the line does, as between machines. An upload does not wait for its interval. In B3
the store and the cold reader, which would be other machines, get the processor that
is left over (the kernel's policy for what is idle, in a group of the scheduler of their
own with the lowest priority; as far as commit e90aebba without that group, as far as
b377dab nice 19).
`

// why is what bounds a row that missed something.
func (r Row) why() string {
	if r.Bound == "" {
		return unexplained
	}
	return r.Bound
}

// MustText is what the row must reach, or nothing.
func (r Row) MustText() string { return r.bound(r.Must) }

func (r Row) bound(v float64) string {
	switch {
	case v == 0:
		return ""
	case r.Less:
		return "≤\u00a0" + Number(v)
	}
	return "≥\u00a0" + Number(v)
}

func (r Row) verdict() string {
	text := Number(r.Median) + "\u00a0" + r.Unit
	switch {
	case r.Missed():
		return "**" + text + "** (must missed)"
	case r.Aim != 0 && !r.aimed():
		return text + " (aim missed)"
	case r.Must != 0:
		return text + " (met)"
	}
	return text
}

// Number tells v in digits that say something.
func Number(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
