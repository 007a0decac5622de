package doctor

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/configs"
)

// clock looks at what time is read from, and whether somebody keeps it in step.
func (h host) clock(context.Context) []Check {
	source := h.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	step := skipped("clock step", "the kernel does not say: %v", err)
	if err == nil {
		step = judgeStep(state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0, time.Duration(t.Maxerror)*time.Microsecond)
	}
	return []Check{judgeClockSource(source), step}
}

// fastClocks can be read without asking the kernel.
var fastClocks = []string{"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "hyperv_clocksource", "riscv_clocksource", "stp"}

func judgeClockSource(source string) Check {
	const name = "clock source"
	switch {
	case source == "":
		return skipped(name, "the kernel does not say which it is")
	case slices.Contains(fastClocks, source):
		return well(name, "%s", source)
	}
	return ill(name, Warn, source, "each look at the clock is a call of the kernel, of a microsecond and more, on every request",
		"echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource if available_clocksource there has it, and clocksource=tsc on the kernel's command line")
}

// judgeStep judges whether the wall clock is kept in step. Nothing that was acked hangs on
// it, but for retention by age, timestamps, certificates and signed requests.
func judgeStep(unsynchronised bool, largest time.Duration) Check {
	const name = "clock step"
	const do = "run chrony, systemd-timesyncd or ntpd on the host (of a container: the host outside), and look at `chronyc tracking` or `timedatectl`"
	const why = "retention by age, timestamps of LogAppendTime, certificates and signed requests to the bucket go by the wall clock"
	switch {
	case unsynchronised:
		return ill(name, Warn, "the kernel's clock is not in step with any other", why, do)
	case largest > clockError:
		return ill(name, Warn, fmt.Sprintf("the clock may be off by %v", largest), why, do)
	}
	return well(name, "in step, by %v at most", largest.Round(time.Millisecond))
}

// limits looks at what the kernel allows the process.
func (h host) limits(context.Context) []Check {
	var files unix.Rlimit
	checks := []Check{skipped("open files", "the kernel does not say")}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		checks[0] = judgeFiles(h.config, files.Max)
	}
	var address unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &address) == nil && address.Cur != unix.RLIM_INFINITY {
		checks = append(checks, ill("address space", Warn, fmt.Sprintf("limited to %s (ulimit -v)", bytes(int64(min(address.Cur, math.MaxInt64)))),
			"Go and modules in WebAssembly reserve far more than they use, and end when they cannot", "ulimit -v unlimited, or LimitAS=infinity in the unit"))
	}
	if pids := h.groupFile("pids.max"); pids != "" {
		checks = append(checks, judgeThreads(pids))
	}
	maps, ok := h.number("proc/sys/vm/max_map_count")
	if !ok {
		return append(checks, skipped("memory maps", "the kernel does not say"))
	}
	if maps < leastMaps {
		return append(checks, ill("memory maps", Warn, fmt.Sprintf("vm.max_map_count is %d", maps), "instances of modules take some each, and cannot be made beyond it",
			fmt.Sprintf("sysctl -w vm.max_map_count=%d", leastMaps)))
	}
	return append(checks, well("memory maps", "vm.max_map_count is %d", maps))
}

// judgeFiles judges the hard limit: Go raises the soft one to it by itself.
func judgeFiles(c *configs.Config, limit uint64) Check {
	const name = "open files"
	want := uint64(c.Network.MaxConnections) + uint64(c.WAL.Capacity/c.WAL.SegmentSize) + otherFiles
	found := fmt.Sprintf("%d at most", limit)
	if limit == unix.RLIM_INFINITY {
		found = "unlimited"
	}
	do := fmt.Sprintf("ulimit -Hn %d, LimitNOFILE=%[1]d in the unit, or --ulimit nofile=%[1]d of the container", want)
	switch {
	case limit < leastFiles:
		return ill(name, Fail, found, "connections, segments of the log and uploads take one each: the node would refuse clients, and fail to make segments", do)
	case limit < want:
		return ill(name, Warn, found, fmt.Sprintf("network.max_connections, %d, with the segments of the log and what else is open come to %d: clients beyond it are refused", c.Network.MaxConnections, want),
			do+"; or set network.max_connections")
	}
	return well(name, "%s; %d are wanted", found, want)
}

// judgeThreads judges pids.max of the control group: threads count too.
func judgeThreads(limit string) Check {
	const name = "threads"
	n, err := strconv.ParseInt(limit, 10, 64)
	if err == nil && n < 512 {
		return ill(name, Warn, fmt.Sprintf("pids.max of the control group is %d", n), "reads of a slow disk take a thread each, and the process ends when it cannot have one",
			"TasksMax=infinity in the unit, or --pids-limit of the container")
	}
	return well(name, "pids.max of the control group is %s", limit)
}

// groupFile reads a file of this process's control group, or of the nearest above that has
// it; "": none has.
func (h host) groupFile(name string) string {
	for line := range strings.Lines(h.read("proc/self/cgroup")) {
		path, v2 := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !v2 {
			continue
		}
		for at := path; ; at = at[:strings.LastIndexByte(at, '/')] {
			if text := h.read("sys/fs/cgroup" + at + "/" + name); text != "" {
				return text
			}
			if strings.LastIndexByte(at, '/') < 0 {
				return ""
			}
		}
	}
	return ""
}

// memory compares the budgets with what there is, and looks at how the kernel hands it out.
func (h host) memory(context.Context) []Check {
	values := h.meminfo()
	checks := []Check{h.judgeMemory(values["MemTotal"], h.groupFile("memory.max")), h.judgeSwap(values["SwapTotal"])}
	huge := h.chosen("sys/kernel/mm/transparent_hugepage/enabled")
	none, _ := h.number("sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none")
	checks = append(checks, judgeHugePages(huge, none))
	overcommit, ok := h.number("proc/sys/vm/overcommit_memory")
	switch {
	case !ok:
		checks = append(checks, skipped("overcommit", "the kernel does not say"))
	case overcommit == 2:
		checks = append(checks, ill("overcommit", Warn, "vm.overcommit_memory is 2: what is reserved counts as used", "Go and modules in WebAssembly reserve far more than they use: instances of modules are refused",
			"sysctl -w vm.overcommit_memory=0"))
	default:
		checks = append(checks, well("overcommit", "vm.overcommit_memory is %d", overcommit))
	}
	return checks
}

// meminfo is /proc/meminfo in bytes.
func (h host) meminfo() map[string]int64 {
	values := map[string]int64{}
	for line := range strings.Lines(h.read("proc/meminfo")) {
		key, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				values[key] = n << 10
			}
		}
	}
	return values
}

func (h host) judgeMemory(total int64, group string) Check {
	const name = "memory"
	if limit, err := strconv.ParseInt(group, 10, 64); err == nil && (total == 0 || limit < total) {
		total = limit
	}
	if total == 0 {
		return skipped(name, "the kernel does not say how much there is")
	}
	budget := h.budget()
	found := fmt.Sprintf("%s, of which the budgets of the configuration are %s", bytes(total), bytes(budget))
	switch do := "set wal.memory, cache.capacity, network.request_memory, network.response_memory and network.quic.receive_memory, or give the host more"; {
	case budget > total:
		return ill(name, Fail, found, "under load the kernel ends the process", do)
	case float64(budget) > memoryShare*float64(total):
		return ill(name, Warn, found, "garbage, metadata and what goes by no budget come on top: under load the kernel may end the process", do)
	}
	return well(name, "%s", found)
}

// budget is what the configuration lets a node hold, of what has a key.
func (h host) budget() int64 {
	n, c := h.config.Network, h.config
	if !h.has("broker") {
		return 256 << 20 // metadata, and what the API answers
	}
	total := int64(c.WAL.Memory) + int64(c.Cache.Capacity) + int64(c.Cache.Indexes) + int64(c.Cache.ReadAhead) + int64(n.RequestMemory) + int64(n.ResponseMemory)
	if n.QUIC.Enabled {
		total += int64(n.QUIC.ReceiveMemory)
	}
	return total
}

func (h host) judgeSwap(swap int64) Check {
	const name = "swap"
	swappiness, ok := h.number("proc/sys/vm/swappiness")
	switch {
	case swap == 0:
		return well(name, "none")
	case ok && swappiness > 10:
		return ill(name, Warn, fmt.Sprintf("%s, and vm.swappiness is %d", bytes(swap), swappiness), "the tail of the log that consumers read may be swapped out: a pause of seconds looks like a broker that is gone",
			"sysctl -w vm.swappiness=1, or swapoff -a")
	}
	return well(name, "%s, vm.swappiness is %d", bytes(swap), swappiness)
}

// judgeHugePages follows Go's guide to its collector: huge pages are well, but for pages of
// which most is free and that khugepaged joins all the same.
func judgeHugePages(enabled string, none int64) Check {
	const name = "huge pages"
	switch {
	case enabled == "":
		return skipped(name, "the kernel has none, or does not say")
	case enabled == "always" && none > 0:
		return ill(name, Warn, fmt.Sprintf("transparent_hugepage is always, and khugepaged/max_ptes_none is %d", none), "memory that Go has given back is taken again as huge pages: the process grows beyond its budgets",
			"echo 0 > /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none, or echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
	}
	return well(name, "transparent_hugepage is %s", enabled)
}
