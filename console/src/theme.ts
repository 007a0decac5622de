// Dark or light: as the system has it, unless one was chosen here.
import { store } from "./store";

export type Theme = "system" | "light" | "dark";

const key = "rustmq-theme";

function stored(): Theme {
  try {
    const is = localStorage.getItem(key);
    return is === "light" || is === "dark" ? is : "system";
  } catch {
    return "system"; // the browser keeps nothing
  }
}

function show(is: Theme): void {
  if (is === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = is;
}

export const theme = store<Theme>(stored());
show(theme.get());

export function setTheme(is: Theme): void {
  show(is);
  theme.set(is);
  try {
    if (is === "system") localStorage.removeItem(key);
    else localStorage.setItem(key, is);
  } catch {
    // it holds until the page is left
  }
}
