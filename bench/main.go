package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: bench run|report|peer|load|relay …")
		os.Exit(2)
	}
	var err error
	switch verb, args := os.Args[1], os.Args[2:]; verb {
	case "run":
		err = runFigures(args)
	case "report":
		err = reportNewest(args)
	case "peer":
		err = runPeer(args)
	case "load":
		err = runLoad(args)
	case "elsewhere":
		err = runElsewhere(args)
	case "relay":
		err = runRelay(args)
	default:
		err = fmt.Errorf("unknown verb %q", verb)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// printJSON writes v as the one line that the parent process reads.
func printJSON(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
