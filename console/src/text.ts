// Bytes and text of records as they are shown. All of it is text to the page, whatever it is; what
// would change how a line reads (controls, marks of direction) is shown by its number.
import { fromBase64 } from "./format";

const odd = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

// visible is text in which nothing hides.
export function visible(text: string): string {
  return text.replace(odd, (c) => `\\u${(c.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`);
}

// Part is a key, a value or one of a header: text, bytes that are none, or null.
export interface Part {
  text?: string | null;
  base64?: string;
  size: number; // of all of it, of which this may be the beginning
}

export type PartKind = "null" | "empty" | "text" | "binary";

export function kindOf(p: Part): PartKind {
  if (p.text !== undefined && p.text !== null) return p.text === "" ? "empty" : "text";
  return p.base64 ? "binary" : "null";
}

export function bytesOf(p: Part): Uint8Array {
  if (p.text !== undefined && p.text !== null) return new TextEncoder().encode(p.text);
  return fromBase64(p.base64 ?? "");
}

// preview is the beginning of a part in one line.
export function preview(p: Part, most = 160): string {
  switch (kindOf(p)) {
    case "text": {
      const text = visible((p.text ?? "").slice(0, most).replace(/\s+/g, " "));
      return (p.text ?? "").length > most ? `${text}…` : text;
    }
    case "binary": {
      const data = bytesOf({ ...p, base64: (p.base64 ?? "").slice(0, 44) }); // 33 bytes
      return [...data.subarray(0, 32)].map((b) => b.toString(16).padStart(2, "0")).join(" ") + (p.size > 32 ? " …" : "");
    }
    default:
      return "";
  }
}

// indented is JSON with line ends; null where it is none. Numbers, and all else, stay as they are
// written: a 64-bit id would be another number after JSON.parse.
export function indented(text: string): string | null {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let out = "";
  let depth = 0;
  const line = () => "\n" + "  ".repeat(depth);
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? "";
    if (c === '"') {
      const from = i;
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
      out += text.slice(from, i + 1);
    } else if (c === "{" || c === "[") {
      let next = i + 1;
      while (/\s/.test(text[next] ?? "")) next++;
      if (text[next] === "}" || text[next] === "]") {
        out += c + text[next];
        i = next;
      } else {
        depth++;
        out += c + line();
      }
    } else if (c === "}" || c === "]") {
      depth--;
      out += line() + c;
    } else if (c === ",") out += c + line();
    else if (c === ":") out += ": ";
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}
