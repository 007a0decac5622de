// Command rustmq is the whole of rustmq: server, client and operator's tool.
package main

import (
	"os"

	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/roles/cloud"
)

func main() { os.Exit(roles.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, cloud.Open)) }
