// Numbers, times and bytes as a person reads them.

const binary = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const thousands = ["", "k", "M", "G", "T"];

function scaled(n: number, base: number, units: string[]): [string, string] {
  let unit = 0;
  let of = Math.abs(n);
  while (of >= base && unit < units.length - 1) {
    of /= base;
    unit++;
  }
  const digits = unit === 0 || of >= 100 ? (unit === 0 && of < 10 && !Number.isInteger(of) ? 1 : 0) : 1;
  return [(n < 0 ? "−" : "") + of.toFixed(digits), units[unit] ?? ""];
}

// bytes: 1536 is "1.5 KiB".
export function bytes(n: number | null | undefined): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return "–";
  const [value, unit] = scaled(n, 1024, binary);
  return `${value} ${unit}`;
}

// count: 12345 is "12,345".
export function count(n: number | null | undefined): string {
  return n === undefined || n === null || !Number.isFinite(n) ? "–" : n.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

// short: 12345 is "12.3k".
export function short(n: number | null | undefined): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return "–";
  const [value, unit] = scaled(n, 1000, thousands);
  return value + unit;
}

// rate: 1234.5 of records is "1.2k/s"; of bytes, "1.2 KiB/s".
export function rate(perSecond: number | null | undefined, of: "count" | "bytes" = "count"): string {
  if (perSecond === undefined || perSecond === null || !Number.isFinite(perSecond)) return "–";
  return `${of === "bytes" ? bytes(perSecond) : short(perSecond)}/s`;
}

// duration of seconds: 0.0042 is "4.2 ms", 90 is "1 min 30 s".
export function duration(seconds: number | null | undefined): string {
  if (seconds === undefined || seconds === null || !Number.isFinite(seconds)) return "–";
  const s = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  if (s === 0) return "0 s";
  if (s < 1e-3) return `${sign}${(s * 1e6).toFixed(0)} µs`;
  if (s < 1) return `${sign}${(s * 1e3).toFixed(s < 0.1 ? 1 : 0)} ms`;
  if (s < 60) return `${sign}${s.toFixed(s < 10 ? 1 : 0)} s`;
  const whole = Math.round(s);
  const parts: [number, string][] = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const from = parts.findIndex(([n]) => n > 0);
  return sign + parts.slice(from, from + 2).filter(([n]) => n > 0).map(([n, unit]) => `${n} ${unit}`).join(" ");
}

// time in the zone of the reader, to the second.
export function time(at: string | number | Date | null | undefined): string {
  const d = dateOf(at);
  return d ? d.toLocaleString("sv-SE") : "–"; // as ISO 8601 has it
}

// utc is the same in UTC, with milliseconds, for titles.
export function utc(at: string | number | Date | null | undefined): string {
  return dateOf(at)?.toISOString() ?? "";
}

// ago of a time: "3 min ago", "in 2 d".
export function ago(at: string | number | Date | null | undefined, now = Date.now()): string {
  const d = dateOf(at);
  if (!d) return "–";
  const seconds = (now - d.getTime()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

function dateOf(at: string | number | Date | null | undefined): Date | null {
  if (at === undefined || at === null || at === "") return null;
  const d = new Date(at);
  return Number.isNaN(d.getTime()) || d.getUTCFullYear() < 1971 ? null : d; // Go's zero time is in the year 1
}

// toLocal is a time as an input of type datetime-local has it; fromLocal the way back.
export function toLocal(rfc3339: string): string {
  const at = new Date(rfc3339);
  if (rfc3339 === "" || Number.isNaN(at.getTime())) return "";
  const two = (n: number) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function fromLocal(local: string): string {
  const at = new Date(local);
  return local === "" || Number.isNaN(at.getTime()) ? "" : at.toISOString();
}

// money in dollars has three digits that tell something: much of it is fractions of a cent.
export function money(n: number | null | undefined): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return "–";
  if (n === 0) return "$0";
  if (Math.abs(n) < 1e-6) return "less than $0.000001";
  if (Math.abs(n) >= 0.1) return "$" + n.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return "$" + n.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

export function percent(share: number | null | undefined): string {
  return share === undefined || share === null || !Number.isFinite(share) ? "–" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
}

// hex of bytes in lines of sixteen: offset, bytes, what of them can be printed.
export function hex(data: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < data.length; at += 16) {
    const row = [...data.subarray(at, at + 16)];
    const digits = row.map((b) => b.toString(16).padStart(2, "0"));
    const left = digits.slice(0, 8).join(" ");
    const right = digits.slice(8).join(" ");
    const text = row.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${left.padEnd(23)}  ${right.padEnd(23)}  ${text}`);
  }
  return lines.join("\n");
}

// fromBase64 is what the API gives bytes in.
export function fromBase64(text: string): Uint8Array {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

export function toBase64(data: Uint8Array): string {
  let raw = "";
  for (const b of data) raw += String.fromCharCode(b);
  return btoa(raw);
}
