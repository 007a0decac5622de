package main

import (
	"fmt"

	"rustmq.dev/rustmq/roles"
)

func main() { fmt.Print(roles.MetricsReference()) }
