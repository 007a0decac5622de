// Command metricsdocument prints docs/reference/metrics.md.
package main

import (
	"fmt"

	"rustmq.dev/rustmq/roles"
)

func main() { fmt.Print(roles.MetricsReference()) }
