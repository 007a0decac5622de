// Command rustmq is the whole of rustmq: server, client and operator's tool.
package main

func main() {}
