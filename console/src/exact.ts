// Integers that JavaScript has no number for: offsets have 64 bits, of which a number keeps 53. What
// the server says is read as the nearest number, to sort and to reckon by; its digits are kept
// beside it, to show, to compare, and to send back.

interface Source {
  source?: string; // of a number, as it stands in the text
}
// Of ECMAScript 2026 (JSON.parse source text access), in browsers since 2025; older ones round.
const json = JSON as unknown as {
  parse(text: string, reviver: (this: object, key: string, value: unknown, context?: Source) => unknown): unknown;
  rawJSON?: (text: string) => object;
};

const digits = new WeakMap<object, Map<string, string>>();
const long = /\d{16}/; // 2^53 has as many

// parse is JSON.parse that keeps the digits of integers that are not numbers exactly.
export function parse(text: string): unknown {
  if (!long.test(text)) return JSON.parse(text);
  return json.parse(text, function (key, value, context) {
    if (typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")) {
      const of = digits.get(this) ?? new Map<string, string>();
      digits.set(this, of.set(key, context?.source ?? ""));
    }
    return value;
  });
}

// exact are the digits of a field as the server wrote them; "" where it is not there. The object is
// the one that came: a copy of it has the numbers alone.
export function exact<T extends object>(of: T, key: keyof T & string): string {
  return digits.get(of)?.get(key) ?? String(of[key] ?? "");
}

// whole is the same to reckon with.
export function whole<T extends object>(of: T, key: keyof T & string): bigint {
  return BigInt(exact(of, key));
}

// grouped is the same to read: "9,007,199,254,740,993".
export function grouped<T extends object>(of: T | undefined, key: keyof T & string): string {
  const text = of ? exact(of, key) : "";
  return text === "" ? "–" : BigInt(text).toLocaleString("en-US");
}

// integer is text of digits as a body has it, never another number: an older browser sends the text
// where it would round, and the server refuses that.
export function integer(text: string): number {
  const n = Number(text);
  return Number.isSafeInteger(n) ? n : ((json.rawJSON?.(text) ?? text) as unknown as number);
}
