package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"rustmq.dev/rustmq/test/tally"
)

func main() {
	suite := flag.String("suite", "", "that was run")
	commit := flag.String("commit", "", "of what it ran")
	seconds := flag.Int64("seconds", 0, "that it took")
	failed := flag.Bool("failed", false, "it did")
	file := flag.String("file", "test/tally/results.json", "that the run is added to")
	flag.Parse()
	counts, failures, err := tally.Read(os.Stdin, *failed)
	if err == nil {
		err = tally.Add(*file, tally.Run{Suite: *suite, Date: time.Now().UTC().Format(time.DateOnly), Commit: *commit, Seconds: *seconds, Counts: counts, Failed: failures})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
