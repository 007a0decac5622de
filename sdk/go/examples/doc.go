// Command examples is ten small programs over a week of earthquakes, from hello to exactly
// once, a file each. They run against `rustmq serve`:
//
//	go run ./sdk/go/examples            # lists them
//	go run ./sdk/go/examples hello
//	go run ./sdk/go/examples -b host:9092 exactly-once
//
// Each makes topics of its own, and may be run again.
package main
