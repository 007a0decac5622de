// Quotas: whom they are for, and their rates, read and written as people do.

export interface QuotaEntity {
  user?: string;
  default_user?: boolean;
  client_id?: string;
  default_client_id?: boolean;
  ip?: string;
  default_ip?: boolean;
}

export interface QuotaKey {
  key: string;
  label: string;
  unit: "bytes" | "percent" | "partitions" | "connections";
  ofAddress: boolean;
}

export const quotaKeys: readonly QuotaKey[] = [
  { key: "producer_byte_rate", label: "Produce", unit: "bytes", ofAddress: false },
  { key: "consumer_byte_rate", label: "Consume", unit: "bytes", ofAddress: false },
  { key: "request_percentage", label: "Requests", unit: "percent", ofAddress: false },
  { key: "controller_mutation_rate", label: "Partitions made and deleted", unit: "partitions", ofAddress: false },
  { key: "connection_creation_rate", label: "New connections", unit: "connections", ofAddress: true },
];

const unitWords = { bytes: "/s", percent: " % of a core", partitions: " partitions/s", connections: " connections/s" } as const;
const scales: Readonly<Record<string, number>> = { "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3 };

// parseRate reads a number, or bytes with a unit (10MiB); null: it is neither.
export function parseRate(text: string, unit: QuotaKey["unit"]): number | null {
  const m = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  if (m === null) {
    return null;
  }
  const scale = scales[(m[2] ?? "").toLowerCase()];
  if (scale === undefined || (unit !== "bytes" && (m[2] ?? "") !== "")) {
    return null;
  }
  const rate = Number(m[1]) * scale;
  return Number.isFinite(rate) && rate > 0 ? rate : null;
}

// shownRate writes a rate with its unit; bytes is how bytes are shown.
export function shownRate(key: string, rate: number, bytes: (n: number) => string): string {
  const unit = quotaKeys.find((k) => k.key === key)?.unit ?? "partitions";
  return (unit === "bytes" ? bytes(rate) : String(rate)) + unitWords[unit];
}

// entityWords says whom a quota is for.
export function entityWords(e: QuotaEntity): string {
  const of: string[] = [];
  if (e.user !== undefined) of.push(`user “${e.user}”`);
  if (e.default_user) of.push("every other user");
  if (e.client_id !== undefined) of.push(`client id “${e.client_id}”`);
  if (e.default_client_id) of.push("every other client id");
  if (e.ip !== undefined) of.push(`address ${e.ip}`);
  if (e.default_ip) of.push("every other address, each for itself");
  return of.join(", ");
}
