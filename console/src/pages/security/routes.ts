// The pages of Security.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/security", load: () => import("./index") }];
