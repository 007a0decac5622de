package consensus

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLogger passes what raft says to slog: its chatter at debug level, its
// warnings as they are. What it calls fatal is a bug, here or there: it panics.
type raftLogger struct {
	log *slog.Logger
}

func (l raftLogger) at(level slog.Level, say func() string) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "raft", "says", say())
	}
}

func (l raftLogger) Debug(v ...any) {
	l.at(slog.LevelDebug, func() string { return fmt.Sprint(v...) })
}
func (l raftLogger) Debugf(format string, v ...any) {
	l.at(slog.LevelDebug, func() string { return fmt.Sprintf(format, v...) })
}
func (l raftLogger) Info(v ...any) {
	l.at(slog.LevelDebug, func() string { return fmt.Sprint(v...) })
}
func (l raftLogger) Infof(format string, v ...any) {
	l.at(slog.LevelDebug, func() string { return fmt.Sprintf(format, v...) })
}
func (l raftLogger) Warning(v ...any) {
	l.at(slog.LevelWarn, func() string { return fmt.Sprint(v...) })
}
func (l raftLogger) Warningf(format string, v ...any) {
	l.at(slog.LevelWarn, func() string { return fmt.Sprintf(format, v...) })
}
func (l raftLogger) Error(v ...any) {
	l.at(slog.LevelError, func() string { return fmt.Sprint(v...) })
}
func (l raftLogger) Errorf(format string, v ...any) {
	l.at(slog.LevelError, func() string { return fmt.Sprintf(format, v...) })
}
func (l raftLogger) Fatal(v ...any) { panic("consensus: raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any) {
	panic("consensus: raft: " + fmt.Sprintf(format, v...))
}
func (l raftLogger) Panic(v ...any) { panic("consensus: raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any) {
	panic("consensus: raft: " + fmt.Sprintf(format, v...))
}
