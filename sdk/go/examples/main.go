package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// quake is an earthquake of test/data/earthquakes.ndjson.
type quake struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	Magnitude float64   `json:"mag"`
	Place     string    `json:"place"`
	Network   string    `json:"net"` // of seismometers that reported it
}

// program is what an example is given.
type program struct {
	brokers []rustmq.Option // how to reach the brokers
	quakes  []quake
	out     io.Writer
	run     string // ends the names of topics and groups, so that each run has its own
}

func (p *program) name(s string) string { return s + "-" + p.run }

func (p *program) printf(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// load makes a topic and fills it with all quakes, by network.
func (p *program) load(ctx context.Context, client *rustmq.Client, topic string, partitions int32) error {
	if err := client.Admin().EnsureTopic(ctx, rustmq.Topic{Name: topic, Partitions: partitions}); err != nil {
		return err
	}
	var records []*rustmq.Record
	for _, q := range p.quakes {
		r, err := rustmq.NewRecord(rustmq.JSON[quake](), topic, []byte(q.Network), q)
		if err != nil {
			return err
		}
		r.Timestamp = q.Time
		records = append(records, r)
	}
	return client.ProduceSync(ctx, records...).Err()
}

// example is one of the ten.
type example struct {
	name, what string
	run        func(context.Context, *program) error
}

func examples() []example {
	return []example{
		{"hello", "produce a record, and read it", hello},
		{"produce", "produce many, each with its result", produce},
		{"typed", "read values of a type, from the start to the end", typed},
		{"group", "share the work among members of a group", group},
		{"workers", "handle many at once, those of a key in order", workers},
		{"retry", "try again, and put aside what cannot be handled", retry},
		{"time", "read from a moment on", fromTime},
		{"transaction", "write to several topics, all or nothing", transaction},
		{"conditional", "append only if nobody else has", conditional},
		{"exactly-once", "read, change and write, exactly once", exactlyOnce},
	}
}

func main() {
	brokers := flag.String("b", "127.0.0.1:9092", "`host:port` of a broker")
	data := flag.String("data", "test/data/earthquakes.ndjson", "`FILE` of earthquakes, a JSON object a line")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, e := range examples() {
		if flag.NArg() == 1 && e.name == flag.Arg(0) {
			quakes, err := read(*data)
			if err == nil {
				err = e.run(ctx, &program{[]rustmq.Option{rustmq.WithBrokers(*brokers)}, quakes, os.Stdout, strconv.FormatInt(time.Now().UnixMilli(), 36)})
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "examples:", err)
				stop()
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: examples [-b host:port] NAME")
	for _, e := range examples() {
		fmt.Fprintf(os.Stderr, "  %-13s %s\n", e.name, e.what)
	}
	stop()
	os.Exit(2)
}

func read(file string) (quakes []quake, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var q quake
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		quakes = append(quakes, q)
	}
	return quakes, lines.Err()
}
