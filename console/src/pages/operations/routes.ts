// The pages of Operations.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [
  { path: "/operations", load: () => import("./index") },
  { path: "/operations/:id", load: () => import("./index") },
];
