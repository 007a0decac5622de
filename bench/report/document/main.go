package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/bench/report"
)

func main() {
	page, err := report.Page("results")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(page)
}
