package main

import (
	"fmt"
	"os"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/compatibility"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "authorisation" {
		fmt.Print(compatibility.Authorisation(broker.AllNeeds()))
		return
	}
	fmt.Print(compatibility.Document(broker.AllVersions()))
}
