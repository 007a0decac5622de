// The pages of Overview.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/", load: () => import("./index") }];
