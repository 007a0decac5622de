// uPlot, in the colours of the theme. It is loaded with the first chart.
import uPlot from "uplot";
import { theme } from "../theme";
import type { Series } from "./chart";

export interface PlotOptions {
  names: string[];
  format: (n: number | null) => string;
  height: number;
}

// Between two times on the axis, which says them to the minute; in seconds.
const minutes = [1, 2, 5, 10, 15, 30, 60].map((n) => n * 60);

export function draw(box: HTMLElement, { names, format, height }: PlotOptions) {
  let plot: uPlot | undefined;
  let data: uPlot.AlignedData = [[], ...names.map(() => [])] as uPlot.AlignedData;
  const make = () => {
    plot?.destroy();
    const style = getComputedStyle(box);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    plot = new uPlot(
      {
        width: Math.max(box.clientWidth, 50),
        height,
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: true }, y: { range: (_, least, most) => [Math.min(0, least), most > 0 ? most * 1.05 : 1] } },
        axes: [
          { ...axis, size: 28, space: 70, incrs: minutes, values: (_, splits) => splits.map((t) => new Date(t * 1000).toLocaleTimeString("sv-SE", { hour: "2-digit", minute: "2-digit" })) },
          { ...axis, size: 72, values: (_, splits) => splits.map((n) => format(n)) },
        ],
        series: [{}, ...names.map((name, i) => ({ label: name, stroke: colour(`--tone-${(i % 6) + 1}`), width: 1.5, spanGaps: false, points: { show: false } }))],
        hooks: { setCursor: [tip] },
      },
      data,
      box,
    );
  };
  const said = document.createElement("div");
  said.className = "chart-tip";
  const tip = (u: uPlot) => {
    const i = u.cursor.idx;
    if (i === null || i === undefined || (u.cursor.left ?? -1) < 0) {
      said.hidden = true;
      return;
    }
    const at = u.data[0][i];
    said.hidden = false;
    said.textContent = [at ? new Date(at * 1000).toLocaleTimeString("sv-SE") : "", ...names.map((name, s) => `${name} ${format(u.data[s + 1]?.[i] ?? null)}`)].join("\n");
    const left = u.cursor.left ?? 0;
    said.style.left = left > u.width / 2 ? "auto" : `${left + 84}px`;
    said.style.right = left > u.width / 2 ? `${u.width - left - 60}px` : "auto";
  };
  said.hidden = true;
  make();
  box.append(said);
  const sized = new ResizeObserver(() => plot?.setSize({ width: Math.max(box.clientWidth, 50), height }));
  sized.observe(box);
  const unsubscribe = theme.subscribe(() => requestAnimationFrame(make));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", make);
  return {
    setData(times: number[], series: Series[]) {
      data = [times, ...series.map((s) => s.values)];
      plot?.setData(data);
    },
    destroy() {
      sized.disconnect();
      unsubscribe();
      dark.removeEventListener("change", make);
      plot?.destroy();
      said.remove();
    },
  };
}
