// Command metricsdocument prints docs/reference/metrics.md, of the code that exports them.
package main
