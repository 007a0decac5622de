// The kit that pages are made of.
export * from "./page";
export * from "./show";
export * from "./form";
export * from "./dialog";
export * from "./tabs";
export * from "./toast";
export * from "./table";
export * from "./bar";
export * from "./chart";
