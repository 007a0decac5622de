// The pages of Audit.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/audit", load: () => import("./index") }];
