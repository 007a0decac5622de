package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/roles/admin"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "types" {
		fmt.Print(admin.TypeScript())
		return
	}
	fmt.Print(admin.Document(admin.Rows()))
}
