import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const trainRoutes: RouteObject[] = [
  { path: "train", lazy: lazyPage(() => import("./index")) },
];
