package main

import (
	"fmt"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/compatibility"
)

func main() { fmt.Print(compatibility.Document(broker.AllVersions())) }
