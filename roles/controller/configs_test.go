package controller

import (
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
)

// The feature level never falls: who asks to hold it below where it is believes something
// else, and is told.
func TestTheFeatureLevelIsNotHeldBelowWhereItIs(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	hold := func(level uint32) error {
		op := ConfigOp{"controller.feature_level", SetConfig, strconv.Itoa(int(level))}
		return c.AlterConfigs(t.Context(), []ConfigChange{{Type: metadata.BrokerResource, Ops: []ConfigOp{op}}}, false)[0]
	}
	is := c.Image().FeatureLevel()
	wantCode(t, "below", hold(is-1), metadata.InvalidConfig)
	for _, level := range []uint32{is, is + 1, 0} {
		if err := hold(level); err != nil {
			t.Errorf("%d, where it is %d: %v", level, is, err)
		}
	}
}

// A cluster that is made with its feature level held begins no higher, rises when it is let
// go, and says once where it is to be held below where it is.
func TestANewClusterBeginsWhereItsLevelIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := new(lines)
		c := open(t, Options{HighestFeatureLevel: metadata.LatestFeatureLevel - 1, Log: slog.New(slog.NewTextHandler(said, nil))})
		level := func(want uint32) {
			t.Helper()
			time.Sleep(time.Hour)
			if is := c.Image().FeatureLevel(); is != want {
				t.Errorf("feature level %d, want %d", is, want)
			}
		}
		level(metadata.LatestFeatureLevel - 1)
		if n := said.count("never falls"); n > 0 {
			t.Errorf("told %d times where nothing is wrong", n)
		}
		c.SetLive(Live{HighestFeatureLevel: metadata.LatestFeatureLevel - 2})
		level(metadata.LatestFeatureLevel - 1)
		if n := said.count("never falls"); n != 1 {
			t.Errorf("held below where it is: told %d times", n)
		}
		c.SetLive(Live{})
		level(metadata.LatestFeatureLevel)
	})
}
