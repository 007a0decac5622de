package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/test/tally"
)

func main() {
	runs, err := tally.Load("test/tally/results.json")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(tally.Page(runs))
}
