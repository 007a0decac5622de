// How long something is still valid, for certificates and tokens: what is drawn is said in words
// beside it.

const day = 86_400_000;

export type Urgency = "ended" | "critical" | "soon" | "good" | "never" | "future";

export interface Expiry {
  urgency: Urgency;
  days: number; // left, rounded down; negative: since it has ended
  words: string;
  share: number; // of its life that is left, 0 to 1
}

// Nodes warn 30 days before the end, and call it critical 7 days before.
const soonDays = 30;
const criticalDays = 7;

// expiryOf judges what is valid from begin to end; end null: for ever.
export function expiryOf(begin: string | null, end: string | null, now: number): Expiry {
  if (end === null) {
    return { urgency: "never", days: Infinity, words: "does not expire", share: 1 };
  }
  const ends = Date.parse(end);
  const begins = begin === null ? now : Date.parse(begin);
  const days = Math.floor((ends - now) / day);
  const share = ends > begins ? Math.min(1, Math.max(0, (ends - now) / (ends - begins))) : 0;
  if (begins > now) {
    return { urgency: "future", days, words: `valid in ${span(begins - now)}`, share };
  }
  if (ends <= now) {
    return { urgency: "ended", days, words: `ended ${span(now - ends)} ago`, share: 0 };
  }
  const urgency = days < criticalDays ? "critical" : days < soonDays ? "soon" : "good";
  return { urgency, days, words: `${span(ends - now)} left`, share };
}

function span(ms: number): string {
  if (ms >= 2 * day) {
    return `${Math.floor(ms / day)} days`;
  }
  if (ms >= 7_200_000) {
    return `${Math.floor(ms / 3_600_000)} hours`;
  }
  const minutes = Math.max(1, Math.floor(ms / 60_000));
  return minutes === 1 ? "1 minute" : `${minutes} minutes`;
}
