// A value that is still being written, once nobody has touched it for a moment.
import { useEffect, useState } from "preact/hooks";

const pause = 300; // ms

export function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), pause);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
