package main

import (
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"rustmq.dev/rustmq/sdk/go/transport/relay"
)

// runRelay passes TCP and UDP on one free port on to -to, each chunk or datagram
// delayed by -delay in each direction; with -rate, everything together
// gets so many bytes a second in each direction, as on one line; with -loss, that part
// of packets is lost.
func runRelay(args []string) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	var o relay.Options
	flags.StringVar(&o.To, "to", "", "host:port to forward to")
	flags.DurationVar(&o.Delay, "delay", 25*time.Millisecond, "one-way delay")
	flags.Int64Var(&o.Rate, "rate", 0, "bytes a second in each direction; 0: no bound")
	flags.Float64Var(&o.Loss, "loss", 0, "part of packets that are lost in each direction")
	flags.Uint64Var(&o.Seed, "seed", 1, "of what is lost")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := relay.Listen(o)
	if err != nil {
		return err
	}
	if err := printJSON(listening{r.Addr()}); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return r.Close()
}
