package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/roles"
)

func main() {
	root := roles.Command()
	if len(os.Args) != 3 || os.Args[1] != "man" {
		fmt.Print(markdown(root))
		return
	}
	if err := writeManual(root, os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}
