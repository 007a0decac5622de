package main

import (
	"fmt"

	"rustmq.dev/rustmq/configs"
)

func main() { fmt.Print(configs.Reference()) }
