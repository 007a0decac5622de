package main

import (
	"fmt"

	"rustmq.dev/rustmq/roles/admin"
)

func main() { fmt.Print(admin.Document(admin.Rows())) }
