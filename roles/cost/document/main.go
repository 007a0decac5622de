package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/cost"
)

func main() {
	page, err := cost.Document(configs.Default())
	if err != nil {
		fmt.Fprintln(os.Stderr, "document:", err)
		os.Exit(1)
	}
	fmt.Print(page)
}
