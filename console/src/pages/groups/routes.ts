// The pages of Groups.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [
  { path: "/groups", load: () => import("./index") },
  { path: "/groups/:id", load: () => import("./group") },
];
