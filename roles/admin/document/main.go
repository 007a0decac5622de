// Command document prints docs/admin-authorisation.md.
package main

import (
	"fmt"

	"rustmq.dev/rustmq/roles/admin"
)

func main() { fmt.Print(admin.Document(admin.Rows())) }
