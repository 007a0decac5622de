// A chart over time. What draws it is loaded when the first chart is shown; who does not see it
// reads the last, least and greatest value of each series below it.
import { useEffect, useRef } from "preact/hooks";
import { bytes, count, duration, rate, short } from "../format";

export type Unit = "bytes" | "bytes/s" | "count" | "count/s" | "seconds";

export interface Series {
  name: string;
  values: (number | null)[]; // as many as times; null: not known
}

export interface ChartProps {
  title: string;
  unit: Unit;
  times: number[]; // Unix seconds, rising
  series: Series[];
  height?: number; // pixels
}

const formats: Record<Unit, (n: number | null) => string> = {
  bytes,
  "bytes/s": (n) => rate(n, "bytes"),
  count: (n) => (n !== null && Math.abs(n) < 10_000 ? count(n) : short(n)),
  "count/s": (n) => rate(n),
  seconds: duration,
};

export function Chart({ title, unit, times, series, height = 180 }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<{ setData(times: number[], series: Series[]): void; destroy(): void } | null>(null);
  const latest = useRef({ times, series });
  latest.current = { times, series };
  const format = formats[unit];
  const names = series.map((s) => s.name).join("\n");
  useEffect(() => {
    const at = box.current;
    if (!at) return;
    let gone = false;
    void import("./plot").then(({ draw }) => {
      if (gone) return;
      plot.current = draw(at, { names: names.split("\n"), format, height });
      plot.current.setData(latest.current.times, latest.current.series);
    });
    return () => {
      gone = true;
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, format, height]);
  useEffect(() => plot.current?.setData(times, series), [times, series]);
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={box} class="chart-box" style={{ height: `${height}px` }} aria-hidden="true" />
      <ul class="legend">
        {series.map((s, i) => {
          const all = s.values.filter((v): v is number => v !== null);
          const last = all.at(-1) ?? null;
          const least = all.reduce((a, b) => Math.min(a, b), all[0] ?? 0);
          const most = all.reduce((a, b) => Math.max(a, b), all[0] ?? 0);
          return (
            <li key={s.name}>
              <span class={`key tone-${(i % 6) + 1}`} aria-hidden="true" />
              {s.name} <b>{format(last)}</b>
              <span class="hidden">
                , between {format(least)} and {format(most)}
              </span>
            </li>
          );
        })}
      </ul>
    </figure>
  );
}
