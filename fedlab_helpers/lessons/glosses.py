"""What frequent words of the reviews mean, in a word or two; particles in parentheses."""

_TEXT = """
的 (of); 了 (done); 是 is; 我 I; 很 very; 也 also; 在 at; 酒店 hotel; 不 not; 有 have; 都 all;
就 then; 没有 no, not; 房间 room; 还 still; 好 good; 和 and; 这 this; 不错 not bad; 说 say; 我们 we;
人 person; 看 look, read; 可以 can; 到 arrive, to; 一个 one; 感觉 feel; 还是 still; 比较 rather;
本书 (this) book; 要 want; 就是 just is; 给 give, to; 但 but; 去 go; 让 let; 服务 service;
自己 oneself; 对 to, right; 买 buy; 住 stay; 书 book; 用 use; 上 on, up; 这个 this one; 非常 very;
但是 but; 他 he; 入住 check in; 喜欢 like; 没 not; 会 will, can; 不是 is not; 你 you; 能 can;
多 many; 有点 a bit; 她 she; 什么 what; 知道 know; 又 again; 后 after; 时候 time, when;
才 only then; 觉得 feel; 中 in; 问题 problem; 而且 moreover; 太 too; 很多 many; 小 small;
孩子 child; 价格 price; 系统 system; 一般 so-so; 前台 reception; 不过 however; 因为 because; 大 big;
早餐 breakfast; 时 when; 个 (piece); 这样 like this; 方便 convenient; 再 again; 过 (ever);
还有 and also; 把 (object:); 月 month; 比 than; 如果 if; 想 want, think; 着 (going on); 里 in;
携程 Ctrip; 吧 (suggest); 来 come; 服务员 attendant; 发现 discover; 不能 cannot; 所以 so; 他们 they;
差 poor; 与 with, and; 啊 (ah); 从 from; 宾馆 guesthouse; 得 (how); 现在 now; 已经 already;
虽然 although; 设施 facilities; 元 yuan; 被 (by); 日 day; 做 do; 装 install; 更 more; 看到 see;
不好 not good; 高 high; 晚上 evening; 驱动 driver; 东西 thing; 朋友 friend; 内容 content;
应该 should; 一样 the same; 一 one; 性价比 value for money; 而 and, but; 最 most; 为 for;
客人 guest; 年 year; 点 o'clock, bit; 真的 really; 一本 a (book); 等 wait, etc.; 一些 some;
下 down, next; 时间 time; 不会 will not; 作者 author; 一点 a little; 却 yet; 可能 maybe; 那 that;
实在 truly; 希望 hope; 里面 inside; 键盘 keyboard; 有些 some; 其他 other; 需要 need; 呢 (and?);
那么 so; 特别 especially; 环境 surroundings; 地方 place; 您 you (polite); 只有 only;
以后 afterwards; 找 look for; 它 it; 一下 briefly; 选择 choose; 故事 story; 怎么 how;
大家 everybody; 并 and; 推荐 recommend; 速度 speed; 只是 merely; 结果 result; 配置 hardware;
写 write; 小时 hour; 屏幕 screen; 建议 suggest; 开始 begin; 房 room; 外观 looks; 送 deliver, give;
一直 all along; 散热 cooling; 生活 life; 对于 regarding; 挺 quite; 值得 worth; 读 read;
最后 finally; 不要 do not; 下次 next time; 态度 attitude; 吃 eat; 完 finish; 来说 speaking of;
干净 clean; 内存 memory; 起来 up; 居然 to my surprise; 跟 with; 只能 can only; 算 count as;
这里 here; 后来 later; 该 the said; 可 can, but; 地 (-ly); 这么 so; 上网 go online; 使用 use;
声音 sound; 适合 suit; 像 resemble; 质量 quality; 要求 demand; 这家 this (place); 其实 actually;
京东 JD.com; 将 will; 真是 truly is; 只 only; 另外 besides; 很大 very big; 位置 location;
舒服 comfortable; 总体 overall; 的话 in case; 换 exchange; 爱 love; 电话 telephone; 问 ask;
满意 satisfied; 好像 seem; 电池 battery; 装修 decor; 较 rather; 一定 certainly; 本 (volume);
竟然 unexpectedly; 点评 review; 卫生间 bathroom; 可是 but; 麻烦 trouble; 为什么 why; 安装 install;
离 away from; 免费 free; 拿 take; 走 walk; 这种 this kind; 那个 that one; 之后 after; 机器 machine;
儿子 son; 带 bring; 网上 online; 根本 at all; 确实 indeed; 不到 less than; 做工 workmanship;
打 hit, call; 出来 come out; 失望 disappointed; 中国 China; 空调 air conditioner; 第二天 next day;
退房 check out; 容易 easy; 交通 transport; 以前 before; 呵呵 haha; 阅读 reading; 餐厅 restaurant;
电脑 computer; 便宜 cheap; 新 new; 硬盘 hard disk; 叫 call; 这次 this time; 人员 staff; 大堂 lobby;
无法 unable; 讲 tell; 连 even; 个人 personal; 当 when, as; 快 fast; 所 (that which); 提供 provide;
这是 this is; 一次 once; 标准 standard; 完全 completely; 简单 simple; 没什么 nothing much;
第一次 first time; 通过 through; 一起 together; 介绍 introduce; 吗 (?); 工作 work; 所有 all;
收到 receive; 相当 quite; 打电话 phone; 方面 aspect; 预定 book ahead; 书中 in the book; 听 listen;
这些 these; 告诉 tell; 文字 writing; 很快 fast; 漂亮 pretty; 效果 effect; 补充 addition; 天 day;
星 star; 女儿 daughter; 性能 performance; 陈旧 dated; 尤其 especially; 隔音 soundproofing;
小说 novel; 服务态度 service manner; 当当 Dangdang; 唯一 the only; 反馈 feedback; 套书 set of books;
地理位置 location; 很小 very small; 一家 a (place); 好看 nice; 到位 well done; 便利 convenient;
感谢您 thank you; 行 okay; 一读 one read; 还会 will again; 不行 no good; 太大 too loud;
快递 delivery; 包装 packing; 无聊 boring
"""
GLOSSES = dict(entry.split(maxsplit=1) for entry in _TEXT.split(";"))


def gloss(word: str) -> str:
    """Return what a word means, in English; "" where that is not known."""
    return GLOSSES.get(word, "")
