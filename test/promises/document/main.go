package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/test/promises"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "promises:", err)
		os.Exit(1)
	}
}

func run() error {
	checkout := os.DirFS(".")
	pages, err := promises.Pages(checkout)
	if err != nil {
		return err
	}
	proofs, err := promises.NewProofs(checkout, pages)
	if err != nil {
		return err
	}
	if len(os.Args) > 1 && os.Args[1] == "missing" {
		for _, page := range pages {
			for _, problem := range page.Problems(proofs) {
				fmt.Println(problem)
			}
		}
		return nil
	}
	text, err := promises.Document(pages, proofs)
	if err != nil {
		return err
	}
	_, err = fmt.Print(text)
	return err
}
